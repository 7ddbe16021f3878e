EXTENSION  = stripe_portal
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(EXTENSION).control)

# The architecture: a topic may use those to its left, never those to its right.
TOPICS = stripe billing webhook access portal churn winback sync

MODULE_big = $(EXTENSION)
OBJS       = src/$(EXTENSION).o src/query.o src/upgrade.o $(patsubst %.c,%.o,$(foreach t,$(TOPICS),$(sort $(wildcard src/$(t)/*.c))))

# All tables before all functions, so that a function may name a table of
# another topic; an upgrade re-applies the second half as it stands.  A topic
# with much to say has schema_<part>.sql and api_<part>.sql beside them.
SCHEMA     = $(foreach t,$(TOPICS),$(sort $(wildcard src/$(t)/schema*.sql)))
API        = $(foreach t,$(TOPICS),$(sort $(wildcard src/$(t)/api*.sql))) src/row_security.sql src/capability.sql src/grants.sql
# Released scripts are installed as they are.  Of an upgrade to the current
# version src/upgrade has what changed in the tables, the rest is built; its
# last build takes its place there when the version rises.
UPGRADES   = $(wildcard src/upgrade/$(EXTENSION)--*--$(EXTVERSION).sql)
DATA       = $(filter-out $(UPGRADES),$(wildcard src/upgrade/$(EXTENSION)--*.sql))
DATA_built = $(EXTENSION)--$(EXTVERSION).sql $(notdir $(UPGRADES))
DOCS       = README.md REFERENCE.md

PG_CPPFLAGS = -I$(CURDIR)/src -DSP_VERSION='"$(EXTVERSION)"' $(shell pkg-config --cflags libcurl libcrypto)
# Callbacks and inline functions of the server's headers leave arguments unused.
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter
SHLIB_LINK  = $(shell pkg-config --libs libcurl libcrypto)

# install is first because the rest needs the extension.  "make installcheck"
# starts a server of its own, "make installcheck INSTANCE=" takes the one that
# PGHOST and PGPORT say.
REGRESS        = install \
                 api form fetch settings \
                 signature webhook bulk ledger growth state read version \
                 mrr history decline_code \
                 access access_matrix \
                 cancellation report page \
                 portal refresh return return_token configuration configuration_apply flow my_session user_mapping \
                 sync sync_customer drift tick forget \
                 winback winback_offer winback_flow winback_lift winback_send advice \
                 row_security trespass hostile privileges rights capability upgrade readme
INSTANCE       = --temp-instance=./tmp_check
REGRESS_OPTS   = $(INSTANCE) --encoding=UTF8 --no-locale --launcher=test/with_stripe
ISOLATION      = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation $(INSTANCE:%=%_iso) --encoding=UTF8 --no-locale \
                 --launcher=test/with_stripe --load-extension=$(EXTENSION)
TAP_TESTS      = 1
PROVE_TESTS   ?= test/t/*.pl

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The install script must never replace an object that somebody put there
# before.  In an upgrade, CREATE OR REPLACE refuses what is no member.
$(EXTENSION)--$(EXTVERSION).sql: src/header.sql $(SCHEMA) $(API) $(EXTENSION).control Makefile
	cat src/header.sql $(SCHEMA) $(API) | sed 's/^CREATE OR REPLACE /CREATE /' > $@

$(notdir $(UPGRADES)): %: src/upgrade/begin.sql src/upgrade/% $(API) src/upgrade/end.sql Makefile
	cat src/upgrade/begin.sql src/upgrade/$* $(API) src/upgrade/end.sql > $@

.PHONY: dist
dist:
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ -o $(EXTENSION)-$(EXTVERSION).zip HEAD

$(OBJS): $(wildcard src/*.h src/*/*.h) $(EXTENSION).control

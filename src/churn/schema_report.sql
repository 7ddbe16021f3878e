-- churn: what the reports need to be fast.

-- The comments of cancellations, by word: in any language, so without stems.
CREATE INDEX cancellation_comment_idx
    ON stripe_portal.cancellation USING gin (to_tsvector('pg_catalog.simple', comment)) WHERE comment <> '';

-- Those that were taken back in a month.
CREATE INDEX cancellation_undone_idx ON stripe_portal.cancellation (undone_at) WHERE undone_at IS NOT NULL;

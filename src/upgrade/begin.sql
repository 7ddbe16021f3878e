-- First part of the upgrade script to the current version.
\echo Use "ALTER EXTENSION stripe_portal UPDATE" to load this file. \quit

-- Whatever stands in the caller's search path gets no say in what follows.
SET LOCAL search_path = pg_catalog, pg_temp;

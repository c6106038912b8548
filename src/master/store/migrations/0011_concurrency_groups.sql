-- A build's concurrency group as JSON; nothing: it is in none.
ALTER TABLE builds ADD COLUMN concurrency TEXT;
-- Whether its turn has come: until then its jobs wait.
ALTER TABLE builds ADD COLUMN has_turn INTEGER NOT NULL DEFAULT 1;

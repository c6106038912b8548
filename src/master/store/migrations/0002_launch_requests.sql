-- What a launch asks for: which of its pool's candidates, in words, and the whole request until it is
-- known what came of it.
ALTER TABLE instances ADD COLUMN candidate INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN what TEXT;
ALTER TABLE instances ADD COLUMN request TEXT;

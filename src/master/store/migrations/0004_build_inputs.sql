-- What a build was started with: a JSON object, text by text.
ALTER TABLE builds ADD COLUMN inputs TEXT NOT NULL DEFAULT '{}';

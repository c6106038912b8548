-- A pool that paused itself may launch again without a person: when its permission is back, or when its
-- machines can be listed again.
ALTER TABLE pools ADD COLUMN resumes TEXT NOT NULL DEFAULT 'when asked';

-- Whose address and volumes an instance has, where its pool has any: a number of the pool's list.
ALTER TABLE instances ADD COLUMN seat INTEGER;

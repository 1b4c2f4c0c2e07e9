-- How a fee's units are split for show, and by which properties its invoice shows them; null where nothing is.
alter table fee add column presentation jsonb;

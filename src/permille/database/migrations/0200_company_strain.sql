-- Whether the organizations that servers see feel each other: background work for one rests only then.
alter table company add column is_strained boolean not null default false;

-- A user has a role in each organization; owners of the installation are admins of all and make new ones.

alter table app_user add column is_owner boolean not null default false;

update app_user set is_owner = true
where id = (select id from app_user where removed_at is null and role = 'admin' order by created_at, id limit 1);

create table membership (
    user_id uuid not null references app_user (id),
    organization_id uuid not null references organization (id),
    role text not null,
    created_at timestamptz not null,
    primary key (user_id, organization_id),
    constraint membership_role check (role in ('admin', 'finance', 'read_only'))
);

create index membership_of_organization on membership (organization_id, created_at, user_id);

-- Until now each user had one role in all organizations.
insert into membership (user_id, organization_id, role, created_at)
select u.id, o.id, u.role, greatest(u.created_at, o.created_at) from app_user u cross join organization o
where u.removed_at is null and not u.is_owner;

alter table app_user drop column role;

-- An invitation is to one organization; those that were to all have to be made again.
alter table one_time_link add column organization_id uuid references organization (id);

delete from one_time_link where user_id is null and not is_first;

alter table one_time_link alter column role drop not null;

update one_time_link set role = null where user_id is not null or is_first;

alter table one_time_link add constraint one_time_link_invites
    check ((organization_id is null) = (role is null));

-- Every change by somebody leaves an entry: who, what, when, from where, and the fields of each object that it changed.
alter table audit_entry
    alter column user_email drop not null,
    add actor text not null default 'user',
    add api_key_id uuid,
    add api_key_prefix text,
    add operation text not null default '',
    add organization_at timestamptz,
    add request_id text,
    add constraint audit_entry_actor check (actor in ('user', 'api_key', 'admin_key', 'command_line'));

create index audit_entry_of_user on audit_entry (organization_id, user_email, at desc, id) where user_email is not null;
create index audit_entry_of_key on audit_entry (organization_id, api_key_prefix, at desc, id) where api_key_prefix is not null;

create table audit_change (
    id uuid primary key,
    entry_id uuid not null references audit_entry (id),
    organization_id uuid,
    object_type text not null,
    object_id text not null,
    object_code text,
    customer_id uuid,
    external_subscription_id text,
    action text not null,
    changes jsonb not null,
    at timestamptz not null,
    constraint audit_change_action check (action in ('created', 'updated', 'deleted'))
);

create index audit_change_of_entry on audit_change (entry_id);
create index audit_change_newest on audit_change (organization_id, at desc, id desc);
create index audit_change_of_object on audit_change (organization_id, object_id, at desc, id desc);
create index audit_change_of_code on audit_change (organization_id, object_code, at desc, id desc);
create index audit_change_of_customer on audit_change (organization_id, customer_id, at desc, id desc)
    where customer_id is not null;
create index audit_change_of_subscription on audit_change (organization_id, external_subscription_id, at desc, id desc)
    where external_subscription_id is not null;

create function audit_key(fields jsonb, keys text[]) returns text language sql immutable
return (select string_agg(fields ->> key, ' ' order by position) from unnest(keys) with ordinality as k (key, position));

create function audit_difference(before jsonb, after jsonb, ignored text[]) returns jsonb language sql immutable
return (
    select jsonb_object_agg(
        key,
        case
            when key in ('hmac_key', 'password_hash', 'private_pem', 'digest', 'secret', 'token') then '["(not shown)", "(not shown)"]'
            when key = 'webhook_url' then jsonb_build_array(
                regexp_replace(b.value #>> '{}', '//[^/@]*@|\?.*$', '...', 'g'), regexp_replace(a.value #>> '{}', '//[^/@]*@|\?.*$', '...', 'g')
            )
            else jsonb_build_array(b.value, a.value)
        end
    )
    from jsonb_each(coalesce(before, '{}')) as b (key, value)
    full join jsonb_each(coalesce(after, '{}')) as a (key, value) using (key)
    where coalesce(b.value, 'null') is distinct from coalesce(a.value, 'null') and key <> all(ignored)
);

create function audit_merge(earlier jsonb, later jsonb) returns jsonb language sql immutable
return (
    select jsonb_object_agg(key, jsonb_build_array(coalesce(e.value, l.value) -> 0, coalesce(l.value, e.value) -> 1))
    from jsonb_each(earlier) as e (key, value) full join jsonb_each(later) as l (key, value) using (key)
);

create function audit_keep(
    object_type text, befores jsonb[], afters jsonb[], keys text[], label text, ignored text[]
) returns void language sql as $$
    with change as (
        select c.* from jsonb_to_record(current_setting('permille.change')::jsonb) as c (
            id uuid, organization_id uuid, actor text, user_id uuid, user_email text, api_key_id uuid, api_key_prefix text,
            operation text, at timestamptz, organization_at timestamptz, request_id text
        )
    ), changed as (
        select
            coalesce(
                (fields ->> 'organization_id')::uuid,
                case when object_type = 'organization' then (fields ->> 'id')::uuid end,
                change.organization_id
            ) as organization_id,
            audit_key(fields, keys) as object_id,
            fields,
            case
                when before is null then 'created'
                when after is null or before ->> 'deleted_at' is null and after ->> 'deleted_at' is not null then 'deleted'
                else 'updated'
            end as action,
            difference
        from unnest(befores, afters) as rows (before, after),
            lateral (select coalesce(after, before) as fields, audit_difference(before, after, ignored) as difference) as d,
            change
        where difference is not null
    ), entry as (
        insert into audit_entry (
            id, organization_id, actor, user_id, user_email, api_key_id, api_key_prefix, action, subject, operation, at,
            organization_at, request_id
        )
        select
            id, coalesce(organization_id, (select max(changed.organization_id::text)::uuid from changed)), actor, user_id, user_email,
            api_key_id, api_key_prefix, '', '', operation, at, organization_at, request_id
        from change where exists (select from changed)
        on conflict (id) do update set organization_id = excluded.organization_id
            where audit_entry.organization_id is null and excluded.organization_id is not null
    )
    insert into audit_change as kept (
        id, entry_id, organization_id, object_type, object_id, object_code, customer_id, external_subscription_id, action,
        changes, at
    )
    select
        substr(encode(sha256(convert_to(concat_ws('/', change.id, object_type, object_id), 'UTF8')), 'hex'), 1, 32)::uuid,
        change.id, changed.organization_id, object_type, object_id,
        regexp_replace(fields ->> label, '//[^/@]*@|\?.*$', '...', 'g'),
        case when object_type = 'customer' then fields ->> 'id' else fields ->> 'customer_id' end::uuid,
        case when object_type = 'subscription' then fields ->> 'external_id' else fields ->> 'external_subscription_id' end,
        changed.action, difference, change.at
    from changed, change
    on conflict (id) do update set
        changes = audit_merge(kept.changes, excluded.changes),
        action = case
            when excluded.action = 'updated' then kept.action
            when kept.action = 'deleted' and excluded.action = 'created' then 'updated'
            else excluded.action
        end
$$;

create function audit_rows() returns trigger language plpgsql as $$
declare
    keys text[] := string_to_array(tg_argv[0], ' ');
    befores jsonb[];
    afters jsonb[];
begin
    if tg_op = 'INSERT' then
        select array_agg(null::jsonb), array_agg(to_jsonb(a)) into befores, afters from new_rows a;
    elsif tg_op = 'DELETE' then
        select array_agg(to_jsonb(b)), array_agg(null::jsonb) into befores, afters from old_rows b;
    else
        select array_agg(b.fields), array_agg(a.fields) into befores, afters
        from (select to_jsonb(o) as fields from old_rows o) as b
        join (select to_jsonb(n) as fields from new_rows n) as a on audit_key(a.fields, keys) = audit_key(b.fields, keys)
        where a.fields <> b.fields;
    end if;
    if befores is not null then
        perform audit_keep(tg_table_name, befores, afters, keys, tg_argv[1], string_to_array(tg_argv[2], ' '));
    end if;
    return null;
end
$$;

-- What is audited: the table, its key, the name of an object for people, the columns that are the engine's own business,
-- and by which statements. A transaction of the engine itself has no permille.change, and leaves no entries.
do $$
declare
    one record;
    way text;
    own_business text := 'created_at updated_at organization_id digest position';
begin
    for one in select * from (values
        ('organization', 'id', 'name', 'test_now last_customer_sequential_id', 'insert update delete'),
        ('billing_entity', 'id', 'code', 'last_invoice_sequential_id', 'insert update delete'),
        ('api_key', 'id', 'prefix', 'last_used_at', 'insert update delete'),
        ('billable_metric', 'id', 'code', '', 'insert update delete'),
        ('billable_metric_filter', 'billable_metric_id key', 'key', '', 'insert update delete'),
        ('plan', 'id', 'code', '', 'insert update delete'),
        ('pricing_unit', 'id', 'code', '', 'insert update delete'),
        ('charge', 'id', 'code', '', 'insert update delete'),
        ('charge_filter', 'id', 'invoice_display_name', '', 'insert update delete'),
        ('customer', 'id', 'external_id', 'sequential_id slug', 'insert update delete'),
        (
            'subscription', 'id', 'external_id',
            'next_billing_at activates_at ends_at fee_billed_until charges_billed_until', 'insert update delete'
        ),
        ('tax', 'id', 'code', '', 'insert update delete'),
        ('event_amendment', 'id', 'event_transaction_id', 'event_identity properties', 'insert update delete'),
        ('invoice', 'id', 'number', 'finalizes_at waits_for_price price_retry_at', 'insert update delete'),
        ('fee', 'id', 'event_transaction_id', '', 'update'),
        ('late_usage', 'id', 'code', 'seen_to lines', 'update'),
        ('credit_note', 'id', 'number', '', 'insert update delete'),
        ('webhook_endpoint', 'id', 'webhook_url', 'is_slow', 'insert update delete'),
        ('webhook', 'id', 'webhook_type', 'payload response last_attempt_at http_status', 'update'),
        ('app_user', 'id', 'email', '', 'insert update delete'),
        ('membership', 'user_id organization_id', 'role', '', 'insert update delete'),
        ('one_time_link', 'path created_at', 'role', '', 'insert')
    ) as audited (name, keys, label, ignored, ways) loop
        foreach way in array string_to_array(one.ways, ' ') loop
            execute format(
                'create trigger audited_%s after %s on %I referencing %s for each statement'
                ' when (current_setting(''permille.change'', true) <> '''') execute function audit_rows(%L, %L, %L)',
                way, way, one.name,
                case way when 'insert' then 'new table as new_rows' when 'delete' then 'old table as old_rows'
                    else 'old table as old_rows new table as new_rows' end,
                one.keys, one.label, concat_ws(' ', own_business, nullif(one.ignored, ''))
            );
        end loop;
    end loop;
end
$$;

-- What a period of a plan comes to at least.
create table commitment (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    plan_id uuid not null unique references plan (id),
    amount_cents bigint not null,
    invoice_display_name text,
    tax_ids uuid[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint commitment_amount check (amount_cents > 0)
);

do $$
declare
    way text;
begin
    foreach way in array array['insert', 'update', 'delete'] loop
        execute format(
            'create trigger audited_%s after %s on commitment %s for each statement'
            ' when (current_setting(''permille.change'', true) <> '''') execute function audit_rows(%L, %L, %L)',
            way, way,
            case
                when way = 'insert' then 'referencing new table as new_rows'
                when way = 'delete' then 'referencing old table as old_rows'
                else 'referencing old table as old_rows new table as new_rows'
            end,
            'id', 'invoice_display_name', 'created_at updated_at organization_id digest position'
        );
    end loop;
end
$$;

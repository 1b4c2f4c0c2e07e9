-- What plans take for granted about calls is checked by the statement that stores them.
create function call_terms(owner uuid) returns text stable language plpgsql as $$
begin
    return json_build_object(
        'listed', (
            select json_object_agg(m.code, (
                select json_object_agg(f.key, f.values order by f.position)
                from billable_metric_filter f where f.billable_metric_id = m.id
            ) order by m.code)
            from billable_metric m
            where m.organization_id = owner and m.deleted_at is null and m.code = any(
                '{llm_tokens,llm_calls,llm_seconds,llm_pages,llm_images,llm_characters,llm_cost}'
            )
        ),
        'aliases', (select json_object_agg(a.name, a.model order by a.name) from model_alias a where a.organization_id = owner),
        'has_payer_rules', exists (select from payer_rule p where p.organization_id = owner)
    );
end
$$;

create function count_calls(
    owners uuid[], stamps text[], counted_ats timestamptz[],
    requests bigint[], names text[], payers text[], ats timestamptz[], firsts uuid[], lasts uuid[]
) returns void language plpgsql as $$
declare
    stale text;
begin
    select string_agg(distinct s.request::text, ' ') into stale
    from (
        select o.request from unnest(owners, stamps) with ordinality as o (owner, stamp, request)
        where o.stamp <> md5(call_terms(o.owner))
        union all
        select c.request
        from unnest(requests, names, payers, ats, firsts, lasts) as c (request, name, payer, at, first, last)
        where not exists (
            select from subscription r
            where r.organization_id = owners[c.request] and r.external_id = c.payer
                and r.started_at <= c.at and (r.terminated_at is null or r.terminated_at > c.at)
            order by r.created_at desc offset 0 -- by the index of both ids, even where there are no statistics yet
        ) or exists (
            select from event e where e.identity between c.first and c.last and e.transaction_id = c.name offset 0
        )
    ) s;
    if stale is not null then
        raise exception 'calls are to be looked at' using errcode = 'PM003', detail = stale;
    end if;
    perform note_counted(
        array(select owners[request] from unnest(requests) as request), names, payers,
        array(select counted_ats[request] from unnest(requests) as request)
    );
end
$$;

-- Transaction ids that count once whatever the subscription is: a call of a model, a session that several calls share.
-- Each is the digest of (organization, transaction id), and goes in with its events. Calls from before are known by these.
create table counted_once (
    identity uuid primary key
);

create function count_once(claimed uuid[]) returns void language plpgsql as $$
begin
    insert into counted_once select * from unnest(claimed);
end
$$;

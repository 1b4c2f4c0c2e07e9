-- The fee of a plan is one of its prices: earlier versions have one of their own. Until now a change of it counted for
-- all of them, and their rows had kept what it was when they were written.
update plan v set amount_cents = p.amount_cents from plan p where v.version_of = p.id;

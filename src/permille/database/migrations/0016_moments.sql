-- A cell keeps the sum of each value times its instant too, of which weighted sums are made. All cells are folded
-- anew, in the background; until then what is missing is read from the events.
delete from usage_cell;
alter table usage_cell add column moment numeric not null;
update metering_state set rolled_up_to = 0;

"""A wallet with the credits that it begins with, and the rule by which it is topped up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.custom_section import SectionChoice
from permille.core.customer import Customer
from permille.core.record import Record
from permille.core.wallet import Wallet
from permille.core.wallet_rule import RuleTerms
from permille.store import section_choices
from permille.usecases.top_ups import TopUp, top_up
from permille.usecases.wallet_rules import set_rule
from permille.usecases.wallets import wallets
from permille.usecases.wallets.wallets import NewWallet


class OpenedWallet(Record, kw_only=True):
    """A wallet that is to be opened, with its first credits and its rule."""

    wallet: NewWallet
    first: TopUp
    rule: RuleTerms | None
    section_choice: SectionChoice | None = None
    """What its invoices print instead of its customer's sections."""
    rule_section_choice: SectionChoice | None = None


class WalletChanges(Record, kw_only=True):
    """The columns of a wallet that change, and its rule, where that is to be another one or none."""

    columns: Mapping[str, Any]
    sets_rule: bool
    rule: RuleTerms | None
    keeps_rule: bool
    """Whether it is the same rule as before, with other terms."""
    section_choice: SectionChoice | None = None
    """None leaves what it has chosen."""
    rule_section_choice: SectionChoice | None = None


def open_wallet(conn: Connection[Any], customer: Customer, wanted: OpenedWallet, *, now: datetime) -> Wallet:
    """The wallet, with its first credits. Raises Invalid."""
    made = wallets.add(conn, customer, wanted.wallet, now=now)
    if wanted.section_choice is not None:
        section_choices.choose(conn, made.organization_id, made.id, wanted.section_choice)
    if wanted.rule is not None:
        set_rule(conn, made, wanted.rule, section_choice=wanted.rule_section_choice, now=now)
    top_up(conn, made, wanted.first, now=now)
    return made


def change_wallet(conn: Connection[Any], wallet: Wallet, wanted: WalletChanges, *, now: datetime) -> Wallet:
    """Change a wallet that is locked. Raises NotAllowed when it is terminated, Invalid."""
    after = wallets.change(conn, wallet, wanted.columns, now=now)
    if wanted.section_choice is not None:
        section_choices.choose(conn, after.organization_id, after.id, wanted.section_choice)
    if wanted.sets_rule:
        set_rule(
            conn,
            after,
            wanted.rule,
            keeps=wanted.keeps_rule,
            section_choice=wanted.rule_section_choice,
            now=now,
        )
    return after

"""Renewals: recurring charges in advance price the units carried over from earlier periods when a new one begins.

Source: semantics-metering.md section 5.12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from permille.core.contract.plan import Charge
from permille.core.rating.fee import CompiledCharge, Fee, round_fees
from permille.core.rating.models import ChargeModel


def standing_charge(charge: Charge, *, is_whole: bool) -> Charge:
    """A recurring charge in advance as it prices units carried over into a whole period, or into a part of one."""
    return replace(charge, pay_in_advance=False, prorated=charge.prorated and not is_whole)


def renewed_fees(charge: Charge, compiled: CompiledCharge, fees: Sequence[Fee]) -> list[Fee]:
    """Those in which there is something to pay for a new period: units, or an amount that depends on none."""
    by_rule = charge.charge_model == ChargeModel.CUSTOM
    return round_fees(compiled, [fee for fee in fees if fee.units or (by_rule and compiled.costs(fee.owed))])

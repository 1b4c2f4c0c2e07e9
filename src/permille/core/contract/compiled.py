"""Charges of plans, made ready to be rated."""

from __future__ import annotations

from permille.core.contract.plan import Charge, expanded_filters
from permille.core.metering.custom_aggregation import aggregator_of
from permille.core.rating.charge import CompiledCharge, compile_charge
from permille.core.rating.models import ChargeModel
from permille.core.rating.models.catalogue import with_prices
from permille.core.record import replace


def renewal_charge(charge: Charge, *, is_whole: bool) -> Charge:
    """A recurring charge in advance as it prices units carried over into a whole period, or into a part of one."""
    return replace(charge, pay_in_advance=False, prorated=charge.prorated and not is_whole)


def compile_renewal(charge: Charge, *, currency: str) -> CompiledCharge:
    """A `renewal_charge` made ready to be rated."""
    return replace(compile_plan_charge(charge, currency=currency), is_renewal=True)


def compile_plan_charge(charge: Charge, *, currency: str) -> CompiledCharge:
    """A plan's charge in the plan's currency, made ready to be rated."""
    metric = charge.metric
    filters = expanded_filters(charge)
    properties = charge.properties
    if charge.charge_model is ChargeModel.CATALOGUE:
        properties = with_prices(properties, charge.catalogue, metric.code)
        filters = [
            replace(each, properties=with_prices(each.properties, charge.catalogue, metric.code))
            for each in filters
        ]
    return compile_charge(
        charge_id=charge.id,
        model=charge.charge_model,
        properties=properties,
        filters=filters,
        aggregation=metric.aggregation,
        currency=currency,
        rounding_function=metric.rounding_function,
        rounding_precision=metric.rounding_precision,
        invoice_display_name=charge.invoice_display_name,
        prorated=charge.prorated,
        pay_in_advance=charge.pay_in_advance,
        min_amount_cents=charge.min_amount_cents,
        applied_pricing_unit=charge.applied_pricing_unit,
        aggregator=aggregator_of(metric),
        unlisted_values=charge.unlisted_values,
        rounding=charge.rounding,
        accepts_target_wallet=charge.accepts_target_wallet,
    )

"""How subscriptions and credits are paid: by the customer's payment provider, the only way that there is yet."""

from __future__ import annotations

from permille.api.objects.subscription import PaymentMethod
from permille.api.validation import Fields

_PROVIDER = "provider"
PAYMENT_METHOD = PaymentMethod(payment_method_id=None, payment_method_type=_PROVIDER)


def refuse_other_payment_method(fields: Fields) -> None:
    """Refuse every payment method but the one that is shown."""
    wanted = {"payment_method_id": None, "payment_method_type": _PROVIDER}
    if fields.given.get("payment_method") not in (wanted, {"payment_method_type": _PROVIDER}):
        fields.refuse_unbuilt("payment_method")

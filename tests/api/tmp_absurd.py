from __future__ import annotations
import pytest
from .conftest import Api, charge
from .test_credit_notes import move
from .test_wallets import send, open_wallet, look, transactions
@pytest.mark.parametrize("grants",[True,False])
@pytest.mark.parametrize("units",[10**15, 10**6])
@pytest.mark.parametrize("method",["target","fixed"])
def test_absurd(api, dsn, grants, units, method):
    api.plan(charges=[charge(api.metric(), properties={"amount": "1000000"})])
    for payer in ("cus", "other"):
        api.customer(payer, currency="EUR")
    rule={"trigger":"threshold","method":method,"threshold_credits":"5","target_ongoing_balance":"20","grants_target_top_up":grants,"paid_credits":"10","granted_credits":"0"}
    if method=="fixed": rule.pop("target_ongoing_balance"); rule.pop("grants_target_top_up")
    wrong=open_wallet(api,recurring_transaction_rules=[rule]); right=open_wallet(api,external_customer_id="other")
    api.subscribe(); api.subscribe("fine", external_customer_id="other", plan_code="pro")
    send(api,dsn,units,"wrong")
    r=api.call("PUT","/test_clock",{"test_clock":{"now":"2024-03-06T00:00:00Z"}}); print(r.status_code,r.text[:200])
    r=api.call("PUT","/test_clock",{"test_clock":{"now":"2024-03-07T00:00:00Z"}}); print(r.status_code,r.text[:200])
    print(method,grants,units,look(api,wrong)["ongoing_usage_balance_cents"], look(api,wrong)["balance_cents"],[(t["transaction_status"],t["status"],t["amount"]) for t in transactions(api,wrong)], look(api,right)["ongoing_balance_cents"])

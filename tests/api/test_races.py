"""Requests at the same time: what is to be there once is there once, and nobody sees a 500."""

from concurrent.futures import ThreadPoolExecutor

from tests.api.conftest import Api, charge, plan_body

AT_ONCE = 6


def together(*calls):
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def test_a_customer_is_made_once(api: Api):
    body = {"customer": {"external_id": "cus"}}
    answers = together(*[lambda: api.post("/customers", body)["customer"]["lago_id"]] * AT_ONCE)
    assert len(set(answers)) == 1
    assert api.get("/customers/cus")["customer"]["sequential_id"] == 1


def test_a_subscription_and_its_customer_are_made_once(api: Api):
    api.plan()
    answers = together(*[lambda: api.subscribe()["lago_id"]] * AT_ONCE)
    assert len(set(answers)) == 1
    assert api.get("/customers")["meta"]["total_count"] == 1


def test_a_code_is_taken_once(api: Api):
    body = {"plan": plan_body()}
    statuses = [
        answer.status_code for answer in together(*[lambda: api.call("POST", "/plans", body)] * AT_ONCE)
    ]
    assert sorted(statuses) == [200] + [422] * (AT_ONCE - 1)


def test_a_subscription_ends_once(api: Api):
    api.plan()
    api.subscribe()
    answers = together(*[lambda: api.call("DELETE", "/subscriptions/sub")] * AT_ONCE)
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * (AT_ONCE - 1)


def test_no_charge_survives_its_metric(api: Api):
    for turn in range(5):
        metric = api.metric(f"m{turn}")
        plan = {"plan": plan_body(f"p{turn}", [charge(metric)])}
        path = f"/billable_metrics/m{turn}"
        together(lambda plan=plan: api.call("POST", "/plans", plan), lambda path=path: api.delete(path))
        shown = api.call("GET", f"/plans/p{turn}")
        assert shown.status_code == 404 or shown.json()["plan"]["charges"] == []


def test_changes_of_one_plan_follow_each_other(api: Api):
    metric = api.metric()
    api.plan()

    def add(number: int):
        return api.post("/plans/pro/charges", {"charge": charge(metric, code=f"c{number}")})

    together(*[lambda number=number: add(number) for number in range(AT_ONCE)])
    codes = {entry["code"] for entry in api.get("/plans/pro")["plan"]["charges"]}
    assert codes == {f"c{number}" for number in range(AT_ONCE)}

import pytest

from permille.core.errors import BadRequest, Forbidden, Invalid, NotAllowed, NotFound, Refusal


@pytest.mark.parametrize(
    ("refusal", "status", "code", "text"),
    [
        (NotFound("plan"), 404, "plan_not_found", "plan_not_found"),
        (NotAllowed("no_active_subscription"), 405, "no_active_subscription", "no_active_subscription"),
        (Forbidden("feature_unavailable"), 403, "feature_unavailable", "feature_unavailable"),
        (BadRequest("no body"), 400, None, "no body"),
        (Refusal(status=413, code="body_too_large"), 413, "body_too_large", "body_too_large"),
    ],
)
def test_a_refusal_has_a_status_a_code_and_a_message(
    refusal: Refusal, status: int, code: str | None, text: str
) -> None:
    assert (refusal.status, refusal.code, str(refusal)) == (status, code, text)


def test_all_invalid_fields_are_reported_at_once() -> None:
    errors = {"code": ["value_is_mandatory"], "name": ["value_is_mandatory"]}
    refusal = Invalid(errors)
    assert (refusal.status, refusal.code, refusal.errors) == (422, "validation_errors", errors)
    assert "value_is_mandatory" in str(refusal)

"""Bill your customers for the calls that you make to model providers, in three lines:

    from permille.client import meter

    client = meter(OpenAI(), subscription="sub_acme")

`meter` takes the clients of the packages openai, anthropic and google-genai, sync and async, and anything
else that sends with httpx. Each answer's usage (never a prompt, never an answer's text) is appended to a
spool file before your code gets the answer, and is sent to Permille in batches from there. An outage or a
restart loses nothing.

`PERMILLE_URL`, `PERMILLE_API_KEY` and `PERMILLE_SPOOL` are read where no argument says otherwise. This
package imports nothing of the server's, and only Python's standard library.
"""

from permille.client.billing import billed_to
from permille.client.meter import Meter, meter
from permille.client.spool import UsageNotKeptError

__all__ = ["Meter", "UsageNotKeptError", "billed_to", "meter"]

"""Wire formats of events, one file each. A new one is a file here and a word in FORMATS, or in
USAGE_FORMATS where it is usage of language models.
"""

from permille.ingest.decoders import cloud_events, lago, litellm, llm_usage, traces

FORMATS = (lago.EVENT, lago.BATCH, cloud_events.EVENT, cloud_events.BATCH)
USAGE_FORMATS = (llm_usage.USAGE, litellm.LITELLM, *traces.TRACES)

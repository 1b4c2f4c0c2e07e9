"""Wire formats of events, one file each. A new one is a file here and a word in FORMATS, or in
USAGE_FORMATS where it is usage of language models.
"""

from permille.ingest.decoders import lago, llm_usage, traces

FORMATS = (lago.EVENT, lago.BATCH)
USAGE_FORMATS = (llm_usage.USAGE, *traces.TRACES)

"""Wire formats of events, one file each. A new one is a file here and a word in FORMATS."""

from permille.ingest.decoders import lago

FORMATS = (lago.EVENT, lago.BATCH)

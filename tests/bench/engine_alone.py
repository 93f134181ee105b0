"""A recogniser without a server around it: hears each file whose path comes in, and says how many seconds that took.

python -m tests.bench.engine_alone SPEC
"""

from __future__ import annotations

import json
import os
import sys
import time

from engine.audio.decode import decode
from engine.recognisers.base import Options, Spec
from engine.recognisers.worker import NICENESS, load


def main(spec: Spec) -> None:
    """Until the input ends. As polite as a worker: what else runs on the machine shall slow both alike."""
    os.nice(NICENESS)
    recogniser = load(spec)
    for line in sys.stdin:
        began = time.perf_counter()
        with decode(line.strip(), split=False) as audio:
            recogniser.transcribe(audio, Options())
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(Spec(**json.loads(sys.argv[1])))

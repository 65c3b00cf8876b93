"""Lines for `fluxgate keys import`: the digests of the keys "PREFIX0", "PREFIX1", …

    digests.py COUNT [PREFIX=moved-] [LIMITS, as JSON]
"""

import hashlib
import sys

count = int(sys.argv[1])
prefix = sys.argv[2] if len(sys.argv) > 2 else "moved-"
limits = f',"limits":{sys.argv[3]}' if len(sys.argv) > 3 else ""
for at in range(count):
    digest = hashlib.sha256(f"{prefix}{at}".encode()).hexdigest()
    print(
        f'{{"sha256":"{digest}","name":"moved {at}","scope":"write","owner":"user_{at % 1000}"{limits}}}'
    )

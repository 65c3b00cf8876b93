"""Lines for `fluxgate keys import`: the digests of the keys "moved-0", "moved-1", …

    digests.py COUNT
"""

import hashlib
import sys

for at in range(int(sys.argv[1])):
    digest = hashlib.sha256(b"moved-%d" % at).hexdigest()
    print('{"sha256":"%s","name":"moved %d","scope":"write","owner":"user_%d"}' % (digest, at, at % 1000))

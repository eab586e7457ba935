"""As describe.py, with the work done by Amp's own worker processes over the sockets that ampstore hands out.

Of Amp, the class Data stays: it talks to `python -m amp.descriptor.gaussian` through ampstore's `setup_parallel`.
"""

import sys

import amp.descriptor.gaussian
import amp.utilities
import describe

import ampstore.amp

kept = [amp.utilities.Data]
ampstore.amp.install(workers=sys.argv[2] == "ours")
amp.descriptor.gaussian.Data = kept[0]

if __name__ == "__main__":
    describe.main()

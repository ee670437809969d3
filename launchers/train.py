"""Train one experiment, on as many processes as the launcher starts: `ltrsys train`, as a file that launchers take.

deepspeed launchers/train.py --config configs/glyphs/demo.yaml train.epochs=5
python    launchers/train.py --config configs/glyphs/demo.yaml            (one process)
"""

import sys

from ltrsys.cli.main import main

if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument == "--debug"]
    main([*options, "train", *(argument for argument in sys.argv[1:] if argument != "--debug")])

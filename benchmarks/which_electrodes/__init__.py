"""Which electrodes should one buy? The teacher's choice, named sets, and chance.

    python -m benchmarks.which_electrodes --seeds 3      # windows: cache or MNE_DATA
    python -m benchmarks.which_electrodes --seeds 3 --shard 0/2       # and beside it
    python -m benchmarks.which_electrodes --seeds 3 --shard 1/2
    python -m benchmarks.which_electrodes --table        # shards too, into one CSV

PhysioNet, left v. right fist, the folds, budget and alignment of the harness. In each
fold a teacher is trained from scratch on all 64 electrodes of the labelled training
people, and `select_electrodes` chooses 4, 8 and 16 of them by it, in every way that it
knows (`method`, `importance`), from the teacher and its training windows alone. The
named sets of the same size and three random subsets a fold stand beside them. Each set
is decoded by the default student from scratch, and by tangent space, re-centred; both
see the signals of the set's electrodes alone, aligned by themselves. Nobody who is
tested takes part in the choice or in the training.
"""

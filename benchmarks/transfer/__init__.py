"""Do pretrained weights help on people, caps and tasks that they have not seen?

    python -m benchmarks.transfer                          # MNE_DATA for the recordings
    python -m benchmarks.transfer --seeds 3 --shard 0/2    # and --shard 1/2 beside it
    python -m benchmarks.transfer --table

The same student is fine-tuned from several starts: from scratch, and from weights that
were pretrained without labels. All starts of a cell get the same head, the same windows
in the same order, the same dropout, alignment and budget (40 epochs on one cosine, last
epoch kept), with 3 or 10 labelled people; 3 are the first of the 10. Five folds of
people: each of 20 is tested once a seed. On PhysioNet the weights come from a student
on motor-8, pretrained beside a 64-electrode teacher on the left v. right fist windows
of everybody but the fold's test people; never from those that the package ships, which
have seen everybody. Settings: `left-right motor-8`, the reference, where people alone
are new; other caps; `rest-imagery`, another question about the same training people
(their fist windows, but none of rest, were in pretraining); and simulated recordings,
other people and another amplifier, from the shipped weights. Starts: `pretrained`, as
`from_pretrained` loads it; `restandardised`, the same with the statistics of its
features forgotten, because these are final after 4096 windows of pretraining and need
not fit another cap or amplifier; `classifier` (simulated only), the body of the shipped
fists classifier, which has seen labels.
"""

"""How far apart: metrics, the comparison of one run, the policy, and the verdict.

Measuring (metrics, comparison) knows no limits; judging (policy, verdict) reads only stored
records. So a stored comparison can be judged again under another policy without a device, and a
further measure, such as the error an emulated device is expected to make, joins as one more
metric and one more limit.
"""

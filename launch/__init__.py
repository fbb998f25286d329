"""Everything that is started: train, evaluate, infill, inspect, sweep, report. The only package that imports gin."""

"""A data set of any size, judged image by image on several processes or hosts: a folder of chunks, then one merge."""

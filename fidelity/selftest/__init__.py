"""The product tested on itself: every fault planted in every place must be caught, every clean model must pass."""

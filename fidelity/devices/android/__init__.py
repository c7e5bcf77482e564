"""Phones, and what else answers to adb: a device that jobs are sent to, and that is believed nothing."""

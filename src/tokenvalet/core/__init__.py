"""The quiet room: plain functions and generators that take and give requests, responses and times. No I/O, no locks."""

# Answers, not command lines.
/^[>!] /!b
# What differs from one run to the next: ids, times, and so the widths of columns.
s/[0-9a-f]{64}/<ID>/g
s/\b[0-9a-f]{12}\b/<id>/g
s/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})/<TIME>/g
s/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+ [+-][0-9]{4} [A-Z]+/<TIME>/g
s/(Less than a second|About a minute|About an hour|[0-9]+ (second|minute|hour|day|week|month|year)s?) ago/<AGO>/g
s/\bUp (Less than a second|About a minute|About an hour|[0-9]+ (second|minute|hour|day)s?)/Up <FOR>/g
s,/tmp/tmp\.[A-Za-z0-9]+/files,<FILES>,g
s/ {3,}/   /g
s/^(..)(.*[^ ])? +$/\1\2/

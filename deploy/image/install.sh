#!/bin/sh
# The final stage: puts the files that the build stage left in OUT into this root, with a user and a folder for indexes.
#
#   install.sh OUT
set -eu
out=$1
# The numbers are fixed, because volumes and `runAsUser` name them.
groupadd --gid 10001 shortlist
useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/shortlist --shell /usr/sbin/nologin shortlist
install -m 0755 "$out/shortlist" /usr/local/bin/shortlist
install -D -m 0644 "$out/LICENSE" /usr/share/doc/shortlist/LICENSE
install -d -m 0755 /etc/shortlist
install -d -m 0750 -o 10001 -g 10001 /var/lib/shortlist
# Fails if the build stage had a newer glibc.
/usr/local/bin/shortlist --version

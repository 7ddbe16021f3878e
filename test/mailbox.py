#!/usr/bin/python3
"""A mail server that delivers to a directory: mailbox.py DIRECTORY [SECONDS]

Listens on 127.0.0.1 on a free port and prints HOST:PORT.  Each message becomes
a file, as a mail program shows it: headers, an empty line, the text, and the
HTML if there is one.  SECONDS is how long it takes to accept a message.  Needs
Debian's python3-aiosmtpd; ends with its parent.
"""

import asyncio
import email
import email.policy
import os
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP


class Mailbox:
    def __init__(self, directory: Path, seconds: float) -> None:
        self.directory, self.seconds = directory, seconds

    async def handle_DATA(self, server, session, envelope) -> str:
        await asyncio.sleep(self.seconds)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        shown = [f'{name}: {value}' for name, value in mail.items()]
        shown += [''] + [part.get_content() for part in (mail.get_body(('plain',)), mail.get_body(('html',))) if part]
        number = len(list(self.directory.iterdir()))
        (self.directory / f'{number:04}').write_text('\n'.join(shown).replace('\r\n', '\n'))
        return '250 OK'


async def main() -> None:
    mailbox = Mailbox(Path(sys.argv[1]), float((sys.argv[2:] or [0])[0]))
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), '127.0.0.1', 0)
    print('%s:%d' % server.sockets[0].getsockname(), flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)


if __name__ == '__main__':
    asyncio.run(main())

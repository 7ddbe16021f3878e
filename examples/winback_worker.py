#!/usr/bin/env python3
"""Sends the win-back offers that are due: LISTEN, claim, SMTP, report.

PG* say which database, WINBACK_FROM who sends, WINBACK_SMTP through which server
(localhost:25).  Run as many as you like.  It ends when the database or the mail
server is gone: let your service manager start it again.
"""
import os
import select
import smtplib
from email.message import EmailMessage
from email.utils import parseaddr

import psycopg2
import psycopg2.extras

SENDER = os.environ['WINBACK_FROM']
HOST, PORT = os.environ.get('WINBACK_SMTP', 'localhost:25').rsplit(':', 1)


def message(offer) -> EmailMessage:
    mail = EmailMessage()
    mail['From'], mail['To'], mail['Subject'] = SENDER, offer['email'], offer['subject']
    # the same if it is sent again, so that mail systems can tell
    mail['Message-ID'] = f"<{offer['offer']}@{parseaddr(SENDER)[1].split('@')[1]}>"
    mail.set_content(offer['body'])
    if offer['html']:
        mail.add_alternative(offer['html'], subtype='html')
    return mail


def send_what_is_due(cursor) -> None:
    # connected before anything is claimed, and with timeouts that a lease outlasts
    with smtplib.SMTP(HOST, int(PORT), timeout=30) as smtp:
        while True:
            cursor.execute('SELECT * FROM stripe_winback_claim(5)')
            offers = cursor.fetchall()
            if not offers:
                return
            for offer in offers:
                try:
                    smtp.send_message(message(offer))
                    cursor.execute('SELECT stripe_winback_sent(%s, %s)', (offer['offer'], offer['lease']))
                except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, smtplib.SMTPNotSupportedError, ValueError) as error:
                    cursor.execute('SELECT stripe_winback_failed(%s, %s, %s)', (offer['offer'], offer['lease'], repr(error)))


if __name__ == '__main__':
    database = psycopg2.connect('', cursor_factory=psycopg2.extras.DictCursor)
    database.autocommit = True      # a claim has to be committed before anything is sent
    with database.cursor() as cursor:
        cursor.execute('LISTEN stripe_winback')
        while True:
            send_what_is_due(cursor)
            select.select([database], [], [], 60)   # a lease that ran out notifies nobody
            database.poll()
            database.notifies.clear()

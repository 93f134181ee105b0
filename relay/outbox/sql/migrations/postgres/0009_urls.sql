-- An @ counts before the first /, ? or # alone: behind them it is a part of path, query or fragment, as anywhere else.
CREATE OR REPLACE FUNCTION outspoken.read(url TEXT, OUT origin TEXT, OUT flaw TEXT) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    safe      CONSTANT INTEGER := length(substring(url FROM '^[!-[\]-~]*'));
    scheme    CONSTANT TEXT := lower(split_part(url, ':', 1) COLLATE "C");
    authority CONSTANT TEXT := substring(url FROM '^[^:]*://([^/?#]*)');
    userinfo  CONSTANT TEXT := substring(authority FROM '^(.*)@');
    place     CONSTANT TEXT := lower(regexp_replace(authority, '^.*@', '') COLLATE "C");
    host      TEXT;
    port      TEXT := substring(place FROM '^[^:]*:(.*)$');
    numeric   BOOLEAN := FALSE;
    label     CONSTANT TEXT := '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?';
    next      CONSTANT TEXT := '%[89ab][0-9a-f]';  -- another byte of a character in UTF-8
BEGIN
    IF url IS NULL THEN
        flaw := 'There is none. Name where the result goes.';
    ELSIF length(url) > 65536 THEN
        flaw := 'The URL is longer than 65536 bytes. Shorten its path or query.';
    ELSIF safe < length(url) THEN
        flaw := format('Character %s of the URL is a control character, a space, a backslash or not ASCII. '
                       'Percent-encode it; write an international host name in its xn-- form.', safe + 1);
    ELSIF authority ~ '@.*@' THEN
        flaw := 'It is unclear where the host begins. Write each @ in the credentials as %40.';
    ELSIF authority IS NULL OR scheme NOT IN ('http', 'https', 'ws', 'wss') THEN
        flaw := 'The URL must begin with http:// or https:// or ws:// or wss://.';
    END IF;
    IF flaw IS NOT NULL THEN
        RETURN;
    END IF;

    IF place LIKE '[%' THEN
        host := '[' || outspoken.ipv6(substring(place FROM '^\[([^]]*)\](?::|$)')) || ']';
        port := substring(place FROM '\]:(.*)$');
    ELSE
        host := regexp_replace(split_part(place, ':', 1), '\.$', '');
        numeric := host ~ '^(.*\.)?([0-9]+|0x[0-9a-f]*)$';
        IF NOT numeric AND (length(host) NOT BETWEEN 1 AND 253 OR host !~ format('^%1$s(\.%1$s)*$', label)) THEN
            host := NULL;
        END IF;
    END IF;
    IF host IS NULL THEN
        flaw := 'The host is neither a host name (letters, digits, hyphens and underscores; labels of 1 to 63 characters, '
                '253 in all) nor an IPv6 address in brackets without a zone. Write it plainly, without percent-encoding.';
    ELSIF userinfo !~* '^([a-z0-9._~!$&''()*+,;=:-]|%[0-9a-f]{2})+$' THEN
        flaw := 'The credentials before the @ are empty or hold a character that must be percent-encoded. '
                'Write them as user:password, percent-encoded.';
    ELSIF userinfo !~* replace('^([^%]|%[0-7][0-9a-f]|%(c[2-9a-f]|d[0-9a-f])t|%e0%[ab][0-9a-f]t|%e[1-9abcef]tt'
                               '|%ed%[89][0-9a-f]t|%f0%[9ab][0-9a-f]tt|%f[123]ttt|%f4%8[0-9a-f]tt)+$', 't', next) THEN
        flaw := 'The credentials before the @ are not UTF-8 once percent-decoded. '
                'Write them as user:password, percent-encoded.';
    ELSIF split_part(userinfo, ':', 1) ~* '%3a' THEN
        flaw := 'The credentials before the @ have a colon in the user name, which Basic authentication cannot carry. '
                'Write them as user:password, percent-encoded.';
    ELSIF userinfo ~* '%[01][0-9a-f]|%7f|%c2%[89]' THEN
        flaw := 'The credentials before the @ hold a control character, which Basic authentication cannot carry. '
                'Write them as user:password, percent-encoded.';
    ELSIF numeric AND host !~ '^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\.(?!$)|$)){4}$' THEN
        flaw := 'The host is an address in a spelling that programs read differently. Write an IPv4 address as four decimal '
                'numbers without leading zeros.';
    ELSIF port IS NOT NULL AND (port !~ '^[1-9][0-9]{0,4}$' OR lpad(port, 5, '0') COLLATE "C" > '65535') THEN
        flaw := 'The port is not one of those that are open here. Use one of 1 to 65535.';
    ELSE
        origin := scheme || '://' || host || ':'
                  || coalesce(port, CASE WHEN scheme IN ('https', 'wss') THEN '443' ELSE '80' END);
    END IF;
END
$$;

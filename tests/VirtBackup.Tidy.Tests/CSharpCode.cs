namespace VirtBackup.Tidy.Tests;

/// <summary>
/// Blanks comments and the text of literals out of C# source, so that rules see code only. Code inside the holes of
/// interpolated strings stays. Every character keeps its offset and every line its number.
/// </summary>
internal sealed class CSharpCode
{
    private readonly string _text;
    private readonly char[] _code;
    private int _at;

    private CSharpCode(string text)
    {
        _text = text;
        _code = text.ToCharArray();
    }

    public static string Strip(string text)
    {
        var lexer = new CSharpCode(text);
        lexer.SkipCode(0);
        return new string(lexer._code);
    }

    private char Peek(int ahead = 0) => _at + ahead < _text.Length ? _text[_at + ahead] : '\0';

    private bool StartsLine()
    {
        var i = _at - 1;
        while (i >= 0 && _text[i] is ' ' or '\t')
        {
            i--;
        }
        return i < 0 || _text[i] == '\n';
    }

    /// <summary>Reads code up to the end, or up to the braces that end a hole of an interpolated string.</summary>
    /// <param name="holeBraces">0: no hole.</param>
    private void SkipCode(int holeBraces)
    {
        var depth = 0;
        while (_at < _text.Length)
        {
            var c = Peek();
            if (c == '/' && Peek(1) == '/')
            {
                BlankLine();
            }
            else if (c == '/' && Peek(1) == '*')
            {
                var end = _text.IndexOf("*/", _at + 2, StringComparison.Ordinal);
                Blank(end < 0 ? _text.Length : end + 2);
            }
            else if (c == '#' && StartsLine())
            {
                // A directive's words are not literals: an apostrophe in #error opens nothing.
                while (_at < _text.Length && Peek() != '\n')
                {
                    _at++;
                }
            }
            else if (c == '\'')
            {
                SkipCharacter();
            }
            else if (c is '"' or '$' or '@' && TrySkipString())
            {
                // Skipped.
            }
            else if (holeBraces > 0 && depth == 0 && c == '}')
            {
                _at = Math.Min(_at + holeBraces, _text.Length);
                return;
            }
            else if (holeBraces > 0 && depth == 0 && c == ':')
            {
                if (Peek(1) == ':')
                {
                    _at += 2;
                    continue;
                }
                // A format: text up to the end of the hole.
                var end = _text.IndexOf('}', _at);
                Blank(end < 0 ? _text.Length : end);
            }
            else
            {
                depth += c is '(' or '[' or '{' ? 1 : c is ')' or ']' or '}' ? -1 : 0;
                _at++;
            }
        }
    }

    private void SkipCharacter()
    {
        var start = _at++;
        if (Peek() == '\\')
        {
            _at += 2;
        }
        while (_at < _text.Length && Peek() is not ('\'' or '\n'))
        {
            _at++;
        }
        var end = _at;
        _at = start + 1;
        Blank(end);
        _at += Peek() == '\'' ? 1 : 0;
    }

    /// <summary>Skips a string literal that begins here; false if none does ($ or @ of something else).</summary>
    private bool TrySkipString()
    {
        var start = _at;
        var dollars = 0;
        var verbatim = false;
        while (Peek() is '$' or '@')
        {
            dollars += Peek() == '$' ? 1 : 0;
            verbatim |= Peek() == '@';
            _at++;
        }
        var quotes = CountRun('"');
        if (quotes == 0)
        {
            _at = start;
            return false;
        }
        if (quotes >= 3 && !verbatim)
        {
            _at += quotes;
            SkipRaw(quotes, dollars);
            return true;
        }
        _at++;
        SkipQuoted(verbatim, dollars > 0);
        return true;
    }

    private void SkipRaw(int quotes, int dollars)
    {
        while (_at < _text.Length)
        {
            if (Peek() == '"')
            {
                var run = CountRun('"');
                if (run >= quotes)
                {
                    _at += run;
                    return;
                }
                Blank(_at + run);
            }
            else if (dollars > 0 && Peek() == '{' && CountRun('{') is var braces && braces >= dollars)
            {
                Blank(_at + braces - dollars);
                _at += dollars;
                SkipCode(dollars);
            }
            else
            {
                Blank(_at + (Peek() == '{' ? CountRun('{') : 1));
            }
        }
    }

    private void SkipQuoted(bool verbatim, bool interpolated)
    {
        while (_at < _text.Length)
        {
            var c = Peek();
            if (c == '"')
            {
                if (!verbatim || Peek(1) != '"')
                {
                    _at++;
                    return;
                }
                Blank(_at + 2);
            }
            else if (c == '\\' && !verbatim)
            {
                Blank(_at + 2);
            }
            else if (c == '{' && interpolated)
            {
                if (Peek(1) == '{')
                {
                    Blank(_at + 2);
                    continue;
                }
                _at++;
                SkipCode(1);
            }
            else if (c == '\n' && !verbatim)
            {
                // Not C#: a string that is never closed. The next line is code again.
                return;
            }
            else
            {
                Blank(_at + 1);
            }
        }
    }

    private int CountRun(char c)
    {
        var length = 0;
        while (Peek(length) == c)
        {
            length++;
        }
        return length;
    }

    private void BlankLine()
    {
        var end = _text.IndexOf('\n', _at);
        Blank(end < 0 ? _text.Length : end);
    }

    private void Blank(int end)
    {
        end = Math.Min(end, _text.Length);
        for (; _at < end; _at++)
        {
            if (_text[_at] is not ('\n' or '\r'))
            {
                _code[_at] = ' ';
            }
        }
    }
}

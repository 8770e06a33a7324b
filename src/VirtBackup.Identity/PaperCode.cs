namespace VirtBackup.Identity;

/// <summary>
/// Bytes as letters that people can type from paper: Crockford's base 32 (no I, L, O, U; case does not matter; O reads as 0,
/// I and L as 1), and a check of two symbols. The check is the line's number and its symbols as one long number modulo
/// 1021: a prime above the radix, so that every single wrong symbol and every swap of neighbours changes it.
/// </summary>
internal static class PaperCode
{
    public const int CheckSymbols = 2;

    private const string Alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    private const int Modulus = 1021;
    private const int GroupSymbols = 5;

    /// <summary>Symbols that encode so many bytes.</summary>
    public static int SymbolsFor(int bytes) => ((bytes * 8) + 4) / 5;

    /// <summary>Writes the symbols in groups with dashes between; returns how many characters that were.</summary>
    public static int Encode(ReadOnlySpan<byte> source, Span<char> target)
    {
        var count = SymbolsFor(source.Length);
        var written = 0;
        for (var i = 0; i < count; i++)
        {
            if (i > 0 && i % GroupSymbols == 0)
            {
                target[written++] = '-';
            }
            target[written++] = Alphabet[Bits(source, i * 5)];
        }
        return written;
    }

    /// <summary>The check of a line of symbols.</summary>
    public static string CheckOf(int line, ReadOnlySpan<byte> values) => Spell(Accumulate(line, values, 32));

    /// <summary>The check of a line's bytes when it is already encoded.</summary>
    public static string CheckOfBytes(int line, ReadOnlySpan<byte> source)
    {
        Span<byte> values = stackalloc byte[SymbolsFor(source.Length)];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = (byte)Bits(source, i * 5);
        }
        var check = CheckOf(line, values);
        values.Clear();
        return check;
    }

    /// <summary>The check of a line of arbitrary ASCII text, by its character codes.</summary>
    public static string CheckOfText(int line, ReadOnlySpan<byte> text) => Spell(Accumulate(line, text, 256));

    /// <summary>Reads symbols (dashes and blanks are skipped) into their values 0 to 31; -1 when there is a foreign character or too many.</summary>
    public static int ReadSymbols(ReadOnlySpan<byte> text, Span<byte> values)
    {
        var count = 0;
        foreach (var c in text)
        {
            if (c is (byte)'-' or (byte)' ' or (byte)'\t')
            {
                continue;
            }
            var value = ValueOf((char)c);
            if (value < 0 || count == values.Length)
            {
                return -1;
            }
            values[count++] = (byte)value;
        }
        return count;
    }

    /// <summary>Turns symbol values into bytes; false when the bits left over are not zero.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> values, Span<byte> target)
    {
        var accumulator = 0u;
        var bits = 0;
        var written = 0;
        foreach (var value in values)
        {
            accumulator = (accumulator << 5) | value;
            bits += 5;
            if (bits >= 8)
            {
                bits -= 8;
                target[written++] = (byte)(accumulator >> bits);
                accumulator &= (1u << bits) - 1;
            }
        }
        return accumulator == 0 && written == target.Length;
    }

    private static int ValueOf(char c) => char.ToUpperInvariant(c) switch
    {
        'O' => 0,
        'I' or 'L' => 1,
        var upper => Alphabet.IndexOf(upper, StringComparison.Ordinal),
    };

    private static int Accumulate(int line, ReadOnlySpan<byte> digits, int radix)
    {
        var sum = line;
        foreach (var digit in digits)
        {
            sum = ((sum * radix) + digit) % Modulus;
        }
        return sum;
    }

    private static string Spell(int check) => $"{Alphabet[check >> 5]}{Alphabet[check & 31]}";

    /// <summary>Five bits from bit <paramref name="at"/> on; beyond the end they are zero.</summary>
    private static int Bits(ReadOnlySpan<byte> source, int at)
    {
        var index = at / 8;
        var window = (source[index] << 8) | (index + 1 < source.Length ? source[index + 1] : 0);
        return (window >> (11 - (at % 8))) & 31;
    }
}

using System.CommandLine.Parsing;
using System.Globalization;

namespace VirtBackup.Cli.Commands;

/// <summary>Quantities of bytes on the command line: <c>4096</c>, <c>64KiB</c>, <c>1.5GiB</c>; units are binary, also when written short (<c>64K</c>).</summary>
internal static class ByteCount
{
    private const string Letters = "KMGT";

    public static ulong Parse(ArgumentResult result)
    {
        var text = result.Tokens is [{ Value: var value }] ? value : "";
        if (TryParse(text, out var bytes))
        {
            return bytes;
        }
        result.AddError($"'{text}' is not a number of bytes: write it like 4096, 64KiB or 1.5GiB.");
        return 0;
    }

    public static bool TryParse(string text, out ulong bytes)
    {
        bytes = 0;
        var end = text.AsSpan().TrimEnd().LastIndexOfAnyInRange('0', '9') + 1;
        var unit = text.AsSpan(end).Trim();
        var power = 0;
        if (!unit.IsEmpty && !unit.Equals("B", StringComparison.OrdinalIgnoreCase))
        {
            power = Letters.IndexOf(char.ToUpperInvariant(unit[0]), StringComparison.Ordinal) + 1;
            if (power == 0 || !(unit.Length == 1 || unit[1..].Equals("iB", StringComparison.OrdinalIgnoreCase)))
            {
                return false;
            }
        }
        if (!decimal.TryParse(text.AsSpan(0, end), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number))
        {
            return false;
        }
        var scale = 1UL << (10 * power);
        if (number > long.MaxValue / scale)
        {
            return false;
        }
        bytes = (ulong)(number * scale);
        return true;
    }
}

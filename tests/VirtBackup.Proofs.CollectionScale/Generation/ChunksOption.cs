using System.Globalization;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>The option <c>--chunks N</c> of proofs on generated repositories.</summary>
internal static class ChunksOption
{
    /// <summary>Takes it out of the arguments; the rest is for the frame.</summary>
    /// <returns>False: it has no good value, and that was said.</returns>
    public static bool TryTake(string proof, string[] arguments, out long? chunks, out string[] rest)
    {
        (chunks, rest) = (null, arguments);
        var at = Array.IndexOf(arguments, "--chunks");
        if (at < 0)
        {
            return true;
        }
        if (at + 1 == arguments.Length || !long.TryParse(arguments[at + 1], NumberStyles.None, CultureInfo.InvariantCulture, out var wanted) || !HistoryShape.Long(wanted).IsLargeEnough)
        {
            Console.Error.WriteLine($"{proof}: --chunks needs a number that is large enough for {HistoryShape.Long(0).Points} recovery points");
            return false;
        }
        chunks = wanted;
        rest = [.. arguments[..at], .. arguments[(at + 2)..]];
        return true;
    }
}

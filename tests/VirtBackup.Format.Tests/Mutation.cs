using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Format.Tests;

/// <summary>Damages valid bytes at random and holds a parser to: refuse with a <see cref="FaultException"/>, or accept only canonical bytes.</summary>
internal static class Mutation
{
    private static readonly Gen<(int Kind, int At, int Value, int Length)> Edit =
        Gen.Select(Gen.Int[0, 4], Gen.Int[0, 1 << 20], Gen.Int[0, 255], Gen.Int[1, 80]);

    /// <param name="valid">A valid encoding.</param>
    /// <param name="repair">Makes checksums right again, so that damage reaches the rules behind them.</param>
    /// <param name="parse">Parses and writes again what it understood; what it accepts must come out unchanged.</param>
    /// <param name="iterations">Mutants.</param>
    public static void Sample(byte[] valid, Func<byte[], byte[]> repair, Func<byte[], byte[]> parse, int iterations = 4000)
    {
        Assert.Equal(valid, parse(valid));
        Edit.Array[1, 3].Sample(edits =>
        {
            var mutant = valid;
            foreach (var edit in edits)
            {
                mutant = Apply(mutant, edit);
            }
            mutant = repair(mutant);
            try
            {
                return parse(mutant).AsSpan().SequenceEqual(mutant);
            }
            catch (FaultException e)
            {
                return e.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported;
            }
        }, iter: iterations);
    }

    public static byte[] Keep(byte[] bytes) => bytes;

    private static byte[] Apply(byte[] source, (int Kind, int At, int Value, int Length) edit)
    {
        if (source.Length == 0)
        {
            return [(byte)edit.Value];
        }
        var at = edit.At % source.Length;
        var copy = source.ToArray();
        switch (edit.Kind)
        {
            case 0:
                copy[at] ^= (byte)(1 << (edit.Value & 7));
                return copy;
            case 1:
                copy[at] = (byte)edit.Value;
                return copy;
            case 2:
                copy.AsSpan(at, Math.Min(edit.Length, copy.Length - at)).Fill((byte)(edit.Value & 1) == 0 ? (byte)0 : (byte)255);
                return copy;
            case 3:
                return copy[..at];
            default:
                return [.. copy[..at], .. new byte[edit.Length], .. copy[at..]];
        }
    }
}

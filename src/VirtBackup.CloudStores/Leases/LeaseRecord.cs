using System.Globalization;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Leases;

/// <summary>One object of the lease: a line, <c>virtbackup lease 1 HOLDER NONCE MILLISECONDS NAME</c>; 0 milliseconds: it was given back.</summary>
/// <param name="Holder">Who.</param>
/// <param name="Nonce">Of one taking.</param>
/// <param name="Length">So long it is good for; zero: given back.</param>
/// <param name="Name">The holder, for people.</param>
internal sealed record LeaseRecord(Id16 Holder, Id16 Nonce, TimeSpan Length, string Name)
{
    public const int BytesMax = 512;

    private const string FirstWords = "virtbackup lease 1 ";
    private const int NameCharsMax = 200;
    private static readonly TimeSpan s_longest = TimeSpan.FromHours(1);

    // Whatever wrote it may live: it is waited for as long as others are by default.
    private static readonly LeaseRecord s_unknown = new(Id16.Empty, Id16.Empty, TimeSpan.FromSeconds(90), "an unknown program");

    public bool IsGivenBack => Length == TimeSpan.Zero;

    public byte[] ToBytes()
    {
        var name = string.Concat(Name.Select(static c => c is >= ' ' and <= '~' ? c : '?'));
        return Encoding.ASCII.GetBytes(string.Create(
            CultureInfo.InvariantCulture, $"{FirstWords}{Holder} {Nonce} {(long)Length.TotalMilliseconds} {name[..Math.Min(name.Length, NameCharsMax)]}\n"));
    }

    public static LeaseRecord Parse(ReadOnlySpan<byte> bytes)
    {
        var text = Encoding.ASCII.GetString(bytes);
        return text.StartsWith(FirstWords, StringComparison.Ordinal) && text[FirstWords.Length..].TrimEnd('\n').Split(' ', 4) is [var holder, var nonce, var length, var name]
            && Id16.TryParse(holder, out var holderId) && Id16.TryParse(nonce, out var nonceId)
            && long.TryParse(length, NumberStyles.None, CultureInfo.InvariantCulture, out var ms) && ms <= s_longest.TotalMilliseconds
            && !name.Any(char.IsControl)
                ? new LeaseRecord(holderId, nonceId, TimeSpan.FromMilliseconds(ms), name)
                : s_unknown;
    }
}

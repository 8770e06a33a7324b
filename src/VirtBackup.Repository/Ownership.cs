using System.Globalization;
using System.Text;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository;

/// <summary>
/// The claim on a repository: the object <c>owner/&lt;generation&gt;</c>, created only if absent. The highest generation
/// owns. The object holds one line, <c>virtbackup owner 1 &lt;nonce&gt; &lt;Unix ms&gt;</c>; the nonce ties it to the index
/// that claimed it, so that a claim whose outcome was lost is recognised.
/// </summary>
internal sealed class Ownership(IObjectStore store, long generation)
{
    private const int ClaimBytesMax = 128;
    private const string FirstWords = "virtbackup owner 1";

    /// <summary>The generation that this process owns: its fencing token.</summary>
    public long Generation => generation;

    /// <summary>The highest generation in the store and the nonce of its claim; (0, empty) when it was never owned.</summary>
    public static async ValueTask<(long Generation, Id16 Nonce)> FindLatestAsync(IObjectStore store, CancellationToken cancellationToken)
    {
        long latest = 0;
        await foreach (var info in store.ListAsync(ObjectKeys.OwnerPrefix, cancellationToken))
        {
            if (ObjectKeys.TryParseOwner(info.Key, out var found))
            {
                latest = Math.Max(latest, found);
            }
        }
        if (latest == 0)
        {
            return (0, Id16.Empty);
        }
        var text = Encoding.ASCII.GetString(await store.ReadAllAsync(ObjectKeys.Owner(latest), ClaimBytesMax, cancellationToken));
        return (latest, text.Split(' ') is [_, _, _, var nonce, _] && text.StartsWith(FirstWords, StringComparison.Ordinal) && Id16.TryParse(nonce, out var id)
            ? id : Id16.Empty);
    }

    /// <summary>Claims generation <paramref name="latest"/> + 1; the index notes the claim before the store does.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.RepositoryBusy"/>: another process claims it at this moment.</exception>
    public static async ValueTask<Ownership> ClaimAsync(
        IObjectStore store, IDatabase index, OwnerRow row, long latest, TimeProvider clock, IEntropy entropy, CancellationToken cancellationToken)
    {
        var claim = row with { Generation = latest + 1, Nonce = Id16.Create(entropy) };
        await index.WriteAsync(claim.Write, cancellationToken);
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        var text = string.Create(CultureInfo.InvariantCulture, $"{FirstWords} {claim.Nonce} {now}\n");
        return await store.PutAsync(ObjectKeys.Owner(claim.Generation), Encoding.ASCII.GetBytes(text), cancellationToken)
            ? new Ownership(store, claim.Generation)
            : throw new FaultException(
                FaultReason.RepositoryBusy, "Another process has just taken the repository. Stop that process, or use another repository.");
    }

    /// <summary>Makes sure that nobody has taken the repository over.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Fenced"/>.</exception>
    public async ValueTask RequireAsync(CancellationToken cancellationToken)
    {
        if (await store.FindAsync(ObjectKeys.Owner(generation + 1), cancellationToken) is not null)
        {
            throw new FaultException(
                FaultReason.Fenced, "Another process has taken over the repository; this one may not write to it any more. Restart this process if it is the right one.");
        }
    }
}

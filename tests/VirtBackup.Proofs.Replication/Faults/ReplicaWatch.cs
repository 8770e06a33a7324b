using VirtBackup.Proofs.Replication.Sites;

namespace VirtBackup.Proofs.Replication.Faults;

/// <summary>Looks again and again what a replica lists, and has each point that is new to it verified at once.</summary>
internal sealed class ReplicaWatch(PeerSite replica)
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(300);
    private HashSet<string>? _known;

    public int Verified { get; private set; }

    /// <summary>Runs until it is cancelled, which is no failure.</summary>
    /// <exception cref="Testing.Proofs.RefutedException">A point is listed that is not whole.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            var listed = await replica.TryListAsync();
            // What is there when it begins was verified by trials before.
            if (listed is not null) _known ??= [.. listed];
            foreach (var point in listed?.Except(_known!) ?? [])
            {
                if (!await replica.TryVerifyAsync(point)) break;
                _known!.Add(point);
                Verified++;
            }
            await Task.Delay(Pause, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }
}

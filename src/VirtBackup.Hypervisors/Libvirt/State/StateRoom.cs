namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Room for running states that are about to be saved: machines that are captured at once must not count the same free bytes. What is
/// promised counts until its state is saved, without what is written of it: that the free space tells. Safe for concurrent use.
/// </summary>
internal sealed class StateRoom
{
    private readonly Lock gate = new();
    private readonly List<Promise> promises = [];

    /// <summary>Promises room, until the result is disposed.</summary>
    /// <param name="bytes">That the state may take.</param>
    /// <param name="spare">That must be left besides.</param>
    /// <param name="measure">Tells the free bytes.</param>
    /// <param name="free">What is free and promised to nobody.</param>
    /// <param name="written">Tells how many bytes the state takes already.</param>
    /// <returns>Null: there is too little.</returns>
    public IDisposable? TryTake(long bytes, long spare, Func<long> measure, out long free, Func<long>? written = null)
    {
        lock (gate)
        {
            // Before the free space: what is written in between counts twice, rather than not at all.
            var promised = promises.Sum(static promise => promise.Left);
            free = Math.Max(0, measure() - promised);
            if (free < bytes + spare)
            {
                return null;
            }
            var promise = new Promise(this, bytes, written);
            promises.Add(promise);
            return promise;
        }
    }

    private sealed class Promise(StateRoom room, long bytes, Func<long>? written) : IDisposable
    {
        public long Left => Math.Max(0, bytes - (written?.Invoke() ?? 0));

        public void Dispose()
        {
            lock (room.gate)
            {
                room.promises.Remove(this);
            }
        }
    }
}

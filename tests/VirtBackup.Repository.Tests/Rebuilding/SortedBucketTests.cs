using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Rebuilding;

namespace VirtBackup.Repository.Tests.Rebuilding;

public sealed class SortedBucketTests
{
    private const int Bucket = 5;

    /// <summary>Ids that an attacker chose: all alike in their first bytes.</summary>
    [Theory]
    [InlineData(1, 20)]
    [InlineData(700, 8)]
    [InlineData(3000, 20)]
    public void RecordsComeInTheOrderOfTheIndexAndAreFound(int count, int sameBytes)
    {
        using var scratch = SqliteDatabase.OpenInMemory($"bucket {count} {sameBytes}", RepositoryIndex.Schema).OpenScratch();
        var random = new Random(count + sameBytes);
        var records = new List<StoredRecord>();
        var spool = new BucketSpool<StoredRecord>(scratch, RebuildSpace.Buckets);
        while (records.Count < count)
        {
            var id = new byte[Id32.Size];
            random.NextBytes(id.AsSpan(sameBytes));
            id[0] = Bucket;
            // Some objects lie in several packs, for several scopes, as another kind or with another length.
            for (var copies = random.Next(3); copies >= 0; copies--)
            {
                var record = new StoredRecord
                {
                    Id = Id32.Read(id), Pack = records.Count, Scope = random.Next(2), RawLength = 1 + random.Next(2), Kind = (RecordKind)(1 + random.Next(2)),
                };
                records.Add(record);
                spool.Add(Bucket, record);
            }
        }
        var bucket = new SortedBucket(spool);
        bucket.Load(Bucket);
        Assert.Equal(records.Count, bucket.Count);
        records.Sort(static (left, right) => left.CompareTo(right));
        for (var at = 0; at < records.Count; at++)
        {
            Assert.Equal(records[at].Pack, bucket[at].Pack);
        }
        foreach (var record in records)
        {
            var first = records.FindIndex(other => other.Id == record.Id && other.Kind == RecordKind.Data);
            var isStored = records.Exists(other =>
                other.Id == record.Id && other.Kind == RecordKind.Data && other.Scope == record.Scope && other.RawLength == record.RawLength);
            Assert.Equal(isStored ? first : -1, bucket.FindChunk(new ChunkReference { Id = record.Id, Length = record.RawLength }, record.Scope));
            Assert.Equal(-1, bucket.FindChunk(new ChunkReference { Id = record.Id, Length = 9 }, record.Scope));
            Assert.Equal(-1, bucket.FindChunk(new ChunkReference { Id = record.Id, Length = record.RawLength }, 7));
        }
        Assert.Equal(-1, bucket.FindChunk(new ChunkReference { Id = new Id32((UInt128)Bucket << 120, 1) }, 0));
    }

    [Fact]
    public void ALeafHoldsAChunkOnce()
    {
        using var scratch = SqliteDatabase.OpenInMemory("bucket of one", RepositoryIndex.Schema).OpenScratch();
        var spool = new BucketSpool<StoredRecord>(scratch, RebuildSpace.Buckets);
        spool.Add(Bucket, new StoredRecord { Id = new Id32((UInt128)Bucket << 120, 3), Kind = RecordKind.Data });
        var bucket = new SortedBucket(spool);
        bucket.Load(Bucket);
        foreach (var leaf in new[] { 0, 0, 4, 4, 4, 9 })
        {
            bucket.Hold(0, leaf);
        }
        Assert.Equal(3, bucket.HoldersOf(0));
        bucket.Load(Bucket);
        Assert.Equal(0, bucket.HoldersOf(0));
    }
}

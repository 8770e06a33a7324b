using System.Net;
using Amazon.S3;
using Amazon.S3.Model;
using VirtBackup.CloudStores.Requests;
using VirtBackup.CloudStores.Spool;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.S3;

/// <summary>The requests of S3. Bodies are signed by their hash, so that one which changes on its way is refused.</summary>
internal sealed class S3Requests(AmazonS3Client client, HttpClient http, RequestMeter meter, StoreLocation place) : ICloudRequests
{
    private const string NonceName = "virtbackup-put";
    private const string HashName = "virtbackup-sha256";
    private const string OnlyIfAbsent = "*";

    private readonly string _bucket = place.Bucket;
    private readonly S3Retention _retention = new(client, place);

    public string Location { get; } = $"the repository {place.Text}";

    public StoreTraffic Traffic => meter.Traffic;

    public long SinglePutBytesMax => Limits.OnePutBytesMax;

    public Task PutAsync(string name, SpooledContent content, ObjectMark mark, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var request = new PutObjectRequest
        {
            BucketName = _bucket, Key = name, IfNoneMatch = OnlyIfAbsent, InputStream = content.OpenRange(0, content.Length), UseChunkEncoding = false,
            ContentType = "application/octet-stream",
        };
        Write(request.Metadata, mark);
        return await client.PutObjectAsync(request, cancellationToken);
    });

    public Task<string> BeginPartsAsync(string name, ObjectMark mark, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var request = new InitiateMultipartUploadRequest { BucketName = _bucket, Key = name, ContentType = "application/octet-stream" };
        Write(request.Metadata, mark);
        return (await client.InitiateMultipartUploadAsync(request, cancellationToken)).UploadId;
    });

    public Task<string> PutPartAsync(string name, string id, int number, SpooledContent content, long offset, long length, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var request = new UploadPartRequest
        {
            BucketName = _bucket, Key = name, UploadId = id, PartNumber = number, InputStream = content.OpenRange(offset, length), PartSize = length, UseChunkEncoding = false,
        };
        return (await client.UploadPartAsync(request, cancellationToken)).ETag;
    });

    public Task CompletePartsAsync(string name, string id, IReadOnlyList<string> parts, ObjectMark mark, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var request = new CompleteMultipartUploadRequest
        {
            BucketName = _bucket, Key = name, UploadId = id, IfNoneMatch = OnlyIfAbsent, PartETags = [.. parts.Select(static (tag, index) => new PartETag(index + 1, tag))],
        };
        return await client.CompleteMultipartUploadAsync(request, cancellationToken);
    });

    public Task AbortPartsAsync(string name, string id, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        try
        {
            await client.AbortMultipartUploadAsync(new AbortMultipartUploadRequest { BucketName = _bucket, Key = name, UploadId = id }, cancellationToken);
        }
        catch (AmazonS3Exception gone) when (gone.ErrorCode == "NoSuchUpload")
        {
            // An earlier try dropped them.
        }
        return true;
    });

    public Task<IReadOnlyList<UnfinishedObject>> ListPartsAsync(string prefix, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var found = new List<UnfinishedObject>();
        var request = new ListMultipartUploadsRequest { BucketName = _bucket, Prefix = prefix };
        while (true)
        {
            var page = await client.ListMultipartUploadsAsync(request, cancellationToken);
            found.AddRange((page.MultipartUploads ?? []).Select(static upload => new UnfinishedObject(upload.Key, upload.UploadId, TimeOf(upload.Initiated))));
            if (page.IsTruncated != true)
            {
                return (IReadOnlyList<UnfinishedObject>)found;
            }
            (request.KeyMarker, request.UploadIdMarker) = (page.NextKeyMarker, page.NextUploadIdMarker);
        }
    });

    // Not by HEAD: its answer has no body, and so no word from the store about which 404 it is.
    public Task<CloudObject?> FindAsync(string name, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        try
        {
            using var found = await client.GetObjectAsync(new GetObjectRequest { BucketName = _bucket, Key = name, ByteRange = new(0, 0) }, cancellationToken);
            return new CloudObject(LengthOf(found), Read(found.Metadata));
        }
        catch (AmazonS3Exception missing) when (S3Failures.IsMissingObject(missing))
        {
            return (CloudObject?)null;
        }
        catch (AmazonS3Exception empty) when (empty.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            var found = await client.GetObjectMetadataAsync(new GetObjectMetadataRequest { BucketName = _bucket, Key = name }, cancellationToken);
            return new CloudObject(found.ContentLength, Read(found.Metadata));
        }
    });

    public Task<CloudBody> GetAsync(string name, long offset, long length, string? version, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var request = new GetObjectRequest { BucketName = _bucket, Key = name, ByteRange = new(offset, offset + length - 1), EtagToMatch = version };
        var response = await client.GetObjectAsync(request, cancellationToken);
        return new CloudBody(response, response.ResponseStream, response.ContentLength, LengthOf(response), response.ETag, Read(response.Metadata));
    });

    public Task<CloudPage> ListAsync(string prefix, string? continuation, CancellationToken cancellationToken) => RunAsync(async () =>
    {
        var page = await client.ListObjectsV2Async(new ListObjectsV2Request { BucketName = _bucket, Prefix = prefix, ContinuationToken = continuation }, cancellationToken);
        if ((page.Prefix ?? "") != prefix)
        {
            throw new CloudRequestException(FailureKind.Passing, "a list was answered that was not asked for");
        }
        if (page.IsTruncated == true && string.IsNullOrEmpty(page.NextContinuationToken))
        {
            throw new CloudRequestException(FailureKind.Passing, "a page of a list says that more follow, but not how to ask for them");
        }
        return new CloudPage(
            [.. (page.S3Objects ?? []).Where(found => found.Key.StartsWith(prefix, StringComparison.Ordinal)).Select(static found => (found.Key, found.Size ?? 0))],
            page.IsTruncated == true ? page.NextContinuationToken : null);
    });

    public Task DeleteAsync(string name, CancellationToken cancellationToken) =>
        RunAsync(async () => await client.DeleteObjectAsync(new DeleteObjectRequest { BucketName = _bucket, Key = name }, cancellationToken));

    public Task RequireRetentionAsync(CancellationToken cancellationToken) => RunAsync(() => _retention.RequireAsync(cancellationToken));

    public Task RetainAsync(string name, DateTimeOffset until, CancellationToken cancellationToken) => RunAsync(() => _retention.RetainAsync(name, until, cancellationToken));

    public Task<DateTimeOffset?> FindRetentionAsync(string name, CancellationToken cancellationToken) => RunAsync(() => _retention.FindAsync(name, cancellationToken));

    public CloudRequestException Translate(Exception exception) => S3Failures.Translate(exception, _bucket);

    public void Dispose()
    {
        client.Dispose();
        http.Dispose();
    }

    private async Task<T> RunAsync<T>(Func<Task<T>> request)
    {
        try
        {
            return await request();
        }
        catch (Exception failure) when (failure is not (OperationCanceledException or CloudRequestException or FaultException))
        {
            throw S3Failures.Translate(failure, _bucket);
        }
    }

    /// <summary>Of an upload that does not tell: just now, so that nobody takes it for old.</summary>
    private static DateTimeOffset TimeOf(DateTime? told) => told is { } time ? new DateTimeOffset(time.ToUniversalTime()) : DateTimeOffset.MaxValue;

    /// <summary>From "bytes 0-9/100".</summary>
    private static long LengthOf(GetObjectResponse response)
    {
        var range = response.ContentRange ?? "";
        return long.TryParse(range.AsSpan(range.LastIndexOf('/') + 1), out var length)
            ? length
            : throw new CloudRequestException(FailureKind.Final, "it answers reads of a range without saying which one")
            {
                Reason = FaultReason.Unsupported, Advice = "A store without ranged reads cannot hold a repository.",
            };
    }

    private static void Write(MetadataCollection metadata, ObjectMark mark) => (metadata[NonceName], metadata[HashName]) = (mark.Nonce, mark.Sha256);

    private static ObjectMark? Read(MetadataCollection metadata) =>
        metadata[NonceName] is { Length: > 0 } nonce && metadata[HashName] is { Length: 64 } hash ? new ObjectMark(nonce, hash) : null;
}

using Amazon.S3;
using Amazon.S3.Model;
using Azure.Storage;
using Azure.Storage.Blobs;
using Azure.Storage.Blobs.Models;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ObjectStore;

/// <summary>Bucket or container behind the product's back.</summary>
internal static class Bucket
{
    /// <summary>Deletes the longest object of a repository whose name holds these words.</summary>
    public static async Task DeleteOneAsync(LabObjectServer server, string location, string words)
    {
        var place = StoreLocation.Parse(location);
        if (place.Kind == StoreKind.S3)
        {
            using var client = new AmazonS3Client(new AmazonS3Config { ServiceURL = server.Endpoint, ForcePathStyle = true, AuthenticationRegion = "us-east-1" });
            var page = await client.ListObjectsV2Async(new ListObjectsV2Request { BucketName = place.Bucket, Prefix = place.Prefix + "/" });
            await client.DeleteObjectAsync(place.Bucket, LongestOf((page.S3Objects ?? []).Select(static found => (found.Key, found.Size ?? 0)), words));
            return;
        }
        var key = new StorageSharedKeyCredential(place.Account, server.Credentials["AZURE_STORAGE_KEY"]);
        var container = new BlobContainerClient(new Uri($"{server.Endpoint}/{place.Account}/{place.Bucket}"), key);
        var blobs = new List<(string, long)>();
        await foreach (var found in container.GetBlobsAsync(new GetBlobsOptions { Prefix = place.Prefix + "/" }))
        {
            blobs.Add((found.Name, found.Properties.ContentLength ?? 0));
        }
        await container.DeleteBlobAsync(LongestOf(blobs, words));
    }

    private static string LongestOf(IEnumerable<(string Name, long Bytes)> objects, string words)
    {
        var fitting = objects.Where(found => found.Name.Contains(words, StringComparison.Ordinal)).ToList();
        return fitting.Count > 0 ? fitting.MaxBy(static found => found.Bytes).Name : throw new RefutedException("there is no object to lose");
    }
}
